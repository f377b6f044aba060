-- A name is unique within a tenant, as two tenants must not see each other's.
alter table flowmaps.named_map drop constraint named_map_pkey;
alter table flowmaps.named_map add primary key (topic, name);
drop index flowmaps.named_map_topic;
