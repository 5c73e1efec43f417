# The benchmark's jobs for Snakemake: which files each needs and makes, and what it takes.
# tools/benchmark.py writes the plan and starts Snakemake with it; what a job does is in its plan.
import json
import re
import sys
from pathlib import Path

with open(config["plan"]) as file:
    JOBS = {job["name"]: job for job in json.load(file)["jobs"]}
ROOT = Path(workflow.basedir).parent
FOLDERS = {job["folder"]: job for job in JOBS.values()}


def job_of(wildcards):
    return FOLDERS[wildcards.folder]


def results_of(names):
    return [f"{JOBS[name]['folder']}/result.json" for name in names]


localrules:
    all,


rule all:
    input:
        results_of(JOBS),


# One rule for each kind, so that a profile can give each its own time and memory. Folders carry the
# digest of what the job depends on: a changed config is another file to make.
# What others wait for comes first. The log is no `log:` of Snakemake's, which would remove what earlier
# starts wrote.
for priority, kind in enumerate(("evaluate", "transfer", "export", "pretrain")):

    rule:
        name:
            kind
        input:
            lambda wildcards: results_of(job_of(wildcards)["needs"]),
        output:
            "{folder}/result.json",
        wildcard_constraints:
            folder="|".join(
                re.escape(folder) for folder, job in FOLDERS.items() if job["rule"] == kind
            ) or "none",
        priority: priority
        threads: lambda wildcards: job_of(wildcards)["cores"]
        resources:
            gpu=lambda wildcards: job_of(wildcards)["gpus"],
            attempt=lambda wildcards, attempt: attempt,
        params:
            name=lambda wildcards: job_of(wildcards)["name"],
            python=sys.executable,
            tool=str(ROOT / "tools" / "benchmark.py"),
            plan=config["plan"],
        message:
            "{params.name}: {wildcards.folder}/log.txt"
        shell:
            "{params.python:q} {params.tool:q} job {params.plan:q} {params.name:q} {resources.attempt}"
