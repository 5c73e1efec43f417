"""The benchmark: from pretrainings through transfers to the paper's tables.

`schema` reads the YAML file, `plan` expands it into jobs, Snakemake (tools/benchmark.smk) starts
them, `run_job` runs one, `collect` makes the tables and `html_report` the report. Each job's folder
is named by a digest of everything that its result depends on (`recipe`). It needs
slotcon_plugin[benchmark].
"""
