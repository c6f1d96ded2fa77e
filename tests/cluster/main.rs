//! Tests against a real API server, one module per thing a user would say.
