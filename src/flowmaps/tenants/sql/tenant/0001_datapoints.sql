-- The fold of the log: one row per identifier, that of the newest record. A row without geom is the memory of a record
-- without location, so that an older record that comes late does not bring the point back. The position of the record
-- in Kafka orders records of equal time. Maps read the view public.datapoint, which hides both.
create table flowmaps.datapoint (
    identifier text primary key,
    survey_id text,
    created_date_time timestamptz,
    last_update_date_time timestamptz not null default now(),
    geom geometry(Point, 4326),
    -- Web Mercator ends at 85.05 degrees; a pole would be infinitely far away.
    the_geom_webmercator geometry(Point, 3857) generated always as (
        st_transform(
            st_setsrid(
                st_makepoint(st_x(geom), greatest(-85.0511287798066, least(85.0511287798066, st_y(geom)))), 4326
            ),
            3857
        )
    ) stored,
    properties jsonb not null default '{}',
    kafka_partition integer not null default -1,
    kafka_offset bigint not null default -1
);
create index datapoint_geom on flowmaps.datapoint using gist (geom);
create index datapoint_the_geom_webmercator on flowmaps.datapoint using gist (the_geom_webmercator);
create index datapoint_survey_id on flowmaps.datapoint (survey_id);

create view public.datapoint as
select
    identifier,
    survey_id,
    created_date_time,
    last_update_date_time,
    geom,
    the_geom_webmercator,
    properties
from flowmaps.datapoint
where geom is not null;

-- Where to read on. A batch is written only under the fence that its consumer was given when it claimed the partition.
create table flowmaps.consumer_offset (
    cluster_id text not null,
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    fence bigint not null,
    topic_id text not null default '',
    updated_at timestamptz not null default clock_timestamp(),
    primary key (cluster_id, topic, partition)
);

create table flowmaps.rejected (
    cluster_id text not null,
    topic text not null,
    partition integer not null,
    kafka_offset bigint not null,
    key bytea,
    value bytea,
    value_bytes bigint not null,
    reason text not null,
    message text not null,
    kafka_time timestamptz,
    rejected_at timestamptz not null default clock_timestamp(),
    primary key (cluster_id, topic, partition, kafka_offset)
);

-- Offsets that were stored as next, but that Kafka no longer had.
create table flowmaps.gap (
    id bigint generated always as identity primary key,
    cluster_id text not null,
    topic text not null,
    partition integer not null,
    stored_offset bigint not null,
    found_offset bigint not null,
    reason text not null,
    noticed_at timestamptz not null default clock_timestamp(),
    accepted_at timestamptz
);

create table flowmaps.change (
    only_row boolean primary key default true check (only_row),
    last_change timestamptz not null
);
insert into flowmaps.change (last_change) values (clock_timestamp());

-- The reader may know when the data changed, and nothing else of this schema.
create function public.flowmaps_last_change() returns timestamptz
language sql stable security definer set search_path = pg_catalog
as 'select last_change from flowmaps.change';
revoke execute on function public.flowmaps_last_change() from public;
