# The benchmark's jobs for Snakemake: the files and resources that each needs, and the file it makes.
# slotcon_plugin/apis/run_benchmark.py writes the plan, which has the jobs' commands, and starts
# Snakemake with it. All paths are relative to the work dir, whose name may contain braces.
import json
import re
import sys
from pathlib import Path

with open(config["plan"]) as file:
    JOBS = {job["name"]: job for job in json.load(file)["jobs"]}
ROOT = Path(workflow.basedir).parent


def results_of(names):
    return [f"jobs/{name}/{JOBS[name]['digest'][:12]}/result.json" for name in names]


localrules:
    all,


rule all:
    input:
        results_of(JOBS),


# One rule for each kind, so that a profile can give each its own time and memory. A folder's name has
# the digest of what the job depends on: a changed config is another file to make. Jobs that others
# need come first. The log is not declared as `log:`, because Snakemake removes the log of an earlier
# start.
for priority, kind in enumerate(("evaluate", "transfer", "export", "pretrain")):

    rule:
        name:
            kind
        input:
            lambda wildcards: results_of(JOBS[wildcards.name]["needs"]),
        output:
            "jobs/{name}/{digest}/result.json",
        wildcard_constraints:
            name="|".join(re.escape(name) for name in JOBS if JOBS[name]["rule"] == kind) or "none",
            digest="[0-9a-f]{12}",
        priority: priority
        threads: lambda wildcards: JOBS[wildcards.name]["cores"]
        resources:
            gpu=lambda wildcards: JOBS[wildcards.name]["gpus"],
            attempt=lambda wildcards, attempt: attempt,
        params:
            python=sys.executable,
            tool=str(ROOT / "tools" / "benchmark.py"),
            plan=config["plan"],
        message:
            "{wildcards.name}: jobs/{wildcards.name}/{wildcards.digest}/log.txt"
        shell:
            "{params.python:q} {params.tool:q} job {params.plan:q} {wildcards.name:q} {resources.attempt}"
