//! The controller: carries plans out against the Kubernetes API and gets credentials from where they come from.
//!
//! | file | what |
//! |---|---|
//! | `driver` | the loop: what is seen goes into the ledger, what is due comes out of it, and people are told |
//! | `rules` | what is known of each rule: its credential, and what its status says |
//! | `objects` | objects as narrow as they are needed |
//! | `copies` | writing copies |
//! | `report` | statuses and events |
//! | `certificates` | the authority, the leaf and the `caBundle`, in a loop of its own |
//! | `election` | who leads |
//! | `sources` | where credentials come from |

mod certificates;
mod copies;
mod driver;
mod election;
mod objects;
mod report;
mod rules;
mod series;
pub mod sources;

pub use certificates::Certificates;
pub use driver::{Controller, Setup};
pub use election::{Election, Lead};
pub use series::{CertificateSeries, Series};
