"""The workloads: each module holds a tuple WORKLOADS of records (bench/workload.py)."""
