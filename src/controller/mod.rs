//! The controller: carries plans out against the Kubernetes API and gets credentials from where they come from.
//!
//! | file | what |
//! |---|---|
//! | `driver` | the loop: what is seen goes into the ledger, what is due comes out of it |
//! | `rules` | what is known of each rule: its credential, and what its status says |
//! | `watch`, `objects` | watches as tasks, and objects as narrow as they are needed |
//! | `copies` | writing copies |
//! | `report` | statuses and events |
//! | `election` | who leads |
//! | `sources` | where credentials come from |

mod copies;
mod driver;
mod election;
mod objects;
mod report;
mod rules;
mod series;
pub mod sources;
mod watch;

pub use driver::{Controller, Setup};
pub use election::Election;
pub use series::Series;
