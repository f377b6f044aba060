-- Every log that this tenant was read from. A topic that was made anew, or that lives on another cluster, is another
-- log: its offsets begin again, so that they say nothing about those of an earlier one. Later logs have higher numbers.
create table flowmaps.kafka_log (
    id integer generated always as identity primary key,
    cluster_id text not null,
    topic text not null,
    -- Kafka's own id of the topic; empty where the broker does not say.
    topic_id text not null,
    first_seen timestamptz not null default clock_timestamp(),
    unique (cluster_id, topic, topic_id)
);
insert into flowmaps.kafka_log (cluster_id, topic, topic_id)
select distinct cluster_id, topic, topic_id from flowmaps.consumer_offset order by 1, 2, 3;

-- Which log a row's position is of, and Kafka's time of the record: tombstones of another partition are compared by it.
alter table flowmaps.datapoint
    add column kafka_log integer not null default 0,
    add column kafka_time timestamptz;

-- Offsets of a topic that was made anew are those of an earlier one again.
alter table flowmaps.rejected add column topic_id text not null default '';
alter table flowmaps.rejected drop constraint rejected_pkey;
alter table flowmaps.rejected add primary key (cluster_id, topic, topic_id, partition, kafka_offset);
create index rejected_reason on flowmaps.rejected (reason, rejected_at);

-- A gap stops its partition until it is accepted; resumed_at says when reading went on.
alter table flowmaps.gap add column topic_id text not null default '';
alter table flowmaps.gap add column resumed_at timestamptz;
update flowmaps.gap set accepted_at = coalesce(accepted_at, noticed_at), resumed_at = noticed_at;
create unique index gap_open on flowmaps.gap (cluster_id, topic, partition) where resumed_at is null;
