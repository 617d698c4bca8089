"""HTTP: connections, requests, routes and responses. Nothing outside this package knows HTTP."""
