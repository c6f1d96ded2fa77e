//! Tests that need no network and no cluster, one module per thing a user would say.

mod house;
