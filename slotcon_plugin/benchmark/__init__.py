"""Floor 3: the benchmark, from pretrainings through transfers to the paper's tables.

A benchmark is a YAML file (`benchmark_file`). It is expanded into jobs (`expand`), each with a
digest of everything that its result depends on (`recipe`); Snakemake decides which to start and
when (tools/benchmark.smk), `work` runs one of them and writes its `result`; `collect`, `tables` and
`report` show what they found.
It needs slotcon_plugin[benchmark].
"""
