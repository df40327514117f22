"""Scripts that measure or strain a real Airflow with Air-Executor, for minutes; none runs in CI."""
