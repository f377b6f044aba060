-- One row per tenant. The first process to write a topic's row decides its names and secrets.
create table flowmaps.tenant (
    id integer generated always as identity primary key,
    topic text not null unique,
    server text not null,
    database text not null,
    owner_name text not null unique,
    owner_password bytea not null,
    reader_name text not null unique,
    reader_password bytea not null,
    state text not null default 'creating' check (state in ('creating', 'ready', 'dropping')),
    created_at timestamptz not null default now(),
    ready_at timestamptz,
    unique (server, database)
);

create table flowmaps.stored_map (
    token text primary key,
    topic text not null,
    -- json and not jsonb: what the caller sent comes back as sent.
    document json not null,
    last_change_ms bigint not null default 0,
    created_at timestamptz not null default now(),
    used_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index stored_map_topic on flowmaps.stored_map (topic, created_at);
create index stored_map_expires_at on flowmaps.stored_map (expires_at);

create table flowmaps.named_map (
    name text primary key,
    topic text not null,
    template json not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index named_map_topic on flowmaps.named_map (topic);

-- Records of topics that have no tenant, as no valid datapoint ever came. The same table is in each tenant database.
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
