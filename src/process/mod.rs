//! What every long-running command is made of.
//!
//! | file | what |
//! |---|---|
//! | `accept` | connections accepted one by one, bounded in number, each served by a task that is owned |
//! | `admin` | the admin port: `/livez`, `/readyz`, `/metrics` |
//! | `files` | files that are read whole and within bounds, and watched by their content |
//! | `logs` | where log lines go and how they look; lines whose rate is bounded |
//! | `metrics` | counters by a bounded label, and a histogram that takes no lock |
//! | `readiness` | named conditions, and what is missing |
//! | `rule_files` | rule documents from paths that a person named |
//! | `shutdown` | the stages in which a process ends |
//! | `tasks` | tasks that run as long as the process does |

pub mod accept;
pub mod admin;
pub mod files;
pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod rule_files;
pub mod shutdown;
pub mod tasks;
