"""Tenants: one database per topic, with an owner role for ingest and a reader role for maps."""

from flowmaps.tenants.connections import OwnerConnections, TenantPools
from flowmaps.tenants.database_errors import our_error, translate_database_errors
from flowmaps.tenants.names import database_name, database_names
from flowmaps.tenants.provisioning import (
    drop_tenant,
    migrate_master,
    migrate_tenant,
    migrate_tenants,
    provision_tenant,
    rotate_credentials,
)
from flowmaps.tenants.registry import Credentials, Tenant, TenantReader, list_tenants, load_tenant

__all__ = [
    "Credentials",
    "OwnerConnections",
    "Tenant",
    "TenantPools",
    "TenantReader",
    "database_name",
    "database_names",
    "drop_tenant",
    "list_tenants",
    "load_tenant",
    "migrate_master",
    "migrate_tenant",
    "migrate_tenants",
    "our_error",
    "provision_tenant",
    "rotate_credentials",
    "translate_database_errors",
]
