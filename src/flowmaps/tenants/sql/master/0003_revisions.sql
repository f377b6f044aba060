-- Raised by whoever changes a tenant from outside, so that running consumers look at it again.
alter table flowmaps.tenant add column revision bigint not null default 0;

-- Kafka's committed offsets carry this mark, so that those of another installation are not taken for ours.
create table flowmaps.installation (
    only_row boolean primary key default true check (only_row),
    id uuid not null default gen_random_uuid()
);
insert into flowmaps.installation default values;

alter table flowmaps.rejected add column topic_id text not null default '';
alter table flowmaps.rejected drop constraint rejected_pkey;
alter table flowmaps.rejected add primary key (cluster_id, topic, topic_id, partition, kafka_offset);
create index rejected_reason on flowmaps.rejected (reason, rejected_at);
