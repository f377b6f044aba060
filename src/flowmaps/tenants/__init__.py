"""Tenants: one database per topic, with an owner role for ingest and a reader role for maps."""

from flowmaps.tenants.connections import OwnerConnections, TenantPools
from flowmaps.tenants.database_errors import our_error, translate_database_errors
from flowmaps.tenants.migrations import pending_migrations
from flowmaps.tenants.names import database_name, database_names
from flowmaps.tenants.overview import Overview, describe_tenant
from flowmaps.tenants.provisioning import (
    drop_tenant,
    installation_id,
    migrate_master,
    migrate_tenant,
    migrate_tenants,
    pending_tenants,
    provision_tenant,
    rotate_credentials,
)
from flowmaps.tenants.registry import Credentials, Tenant, TenantReader, list_tenants, load_tenant, touch_tenant

__all__ = [
    "Credentials",
    "Overview",
    "OwnerConnections",
    "Tenant",
    "TenantPools",
    "TenantReader",
    "database_name",
    "database_names",
    "describe_tenant",
    "drop_tenant",
    "installation_id",
    "list_tenants",
    "load_tenant",
    "migrate_master",
    "migrate_tenant",
    "migrate_tenants",
    "our_error",
    "pending_migrations",
    "pending_tenants",
    "provision_tenant",
    "rotate_credentials",
    "touch_tenant",
    "translate_database_errors",
]
