//! Tests that need no network and no cluster, one module per thing a user would say.

mod finding_codes;
mod rule_files;
mod rule_matching;
mod rule_schema;
