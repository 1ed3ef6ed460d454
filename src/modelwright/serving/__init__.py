"""The HTTP server: several models, batches, access control and an audit log."""
