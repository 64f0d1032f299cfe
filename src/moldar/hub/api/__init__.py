"""The registry's HTTP interface, from routes to services."""
