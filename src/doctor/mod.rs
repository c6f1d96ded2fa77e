//! What is wrong with an installation, seen with a person's own rights, and how to mend it: one file per family of checks.
//!
//! | file | what |
//! |---|---|
//! | `installation` | the webhook configuration and what stands around it |
//! | `rights` | what the two identities may do, and the policies that bind the controller |
//! | `connection` | from the Service to the webhook's answer, each step by itself |
//! | `certificate` | what the webhook serves, against the `caBundle` of the configuration |
//! | `rules` | the rules, what the controller says of them, and the definitions of their kinds |
//! | `accounts` | `ServiceAccount`s that refuse pull secrets |
//! | `injection` | a dry-run Pod that must come back patched |
//! | `report` | what was found, as text and as JSON |
//! | `observe` | what the Kubernetes API says, asked as each family needs it |
//! | `reach` | a call of the webhook itself, its steps timed |
//!
//! A family is a function from what was observed to statements about it. It knows neither clock nor socket; only `observe`
//! and `reach` do. Nothing is ever written: the one Pod that is asked for is a dry run.

mod accounts;
mod certificate;
mod connection;
mod injection;
mod installation;
mod observe;
mod reach;
mod report;
mod rights;
mod rules;

use kube::Client;

pub use observe::{CannotLook, Setting};
pub use report::{Family, Report};

use observe::Look;
use report::Statements;

/// Looks at an installation, and judges what is seen by these families of checks.
///
/// # Errors
/// The API cannot be reached or does not know who asks, or what was asked for is not there.
pub async fn examine(client: Client, setting: Setting, families: &[Family]) -> Result<Report, CannotLook> {
    let look = Look::begin(client, setting).await?;
    let mut checks = Vec::new();
    for family in Family::ALL.iter().copied().filter(|family| families.contains(family)) {
        let mut said = Statements::of(family);
        match family {
            Family::Installation => installation::judge(&look.installation().await, &mut said),
            Family::Rights => rights::judge(&look.rights().await, &mut said),
            Family::Connection => connection::judge(&look.connection().await, &mut said),
            Family::Certificate => certificate::judge(&look.certificate().await, &mut said),
            Family::Rules => rules::judge(&look.rules_family().await, &mut said),
            Family::Accounts => accounts::judge(&look.accounts().await, &mut said),
            Family::Injection => injection::judge(&look.injection().await?, &mut said),
        }
        checks.extend(said.into_inner());
    }
    Ok(look.report(checks))
}
