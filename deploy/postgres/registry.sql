-- The schema registry keeps its schemas apart from Flow Maps' own tables.
create database registry;
