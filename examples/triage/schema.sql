-- Where the DAG writes the summaries of its days: psql -f schema.sql, once.
create table if not exists triage_days (
    day date primary key,
    issues integer not null,
    alerted integer not null,
    archived integer not null,
    refused integer not null,
    sha256 text not null
);
