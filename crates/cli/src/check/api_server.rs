//! The API server: that it answers, that it is new enough, and that its clock and ours agree.

use std::time::{Duration, SystemTime};

use super::ask::Cluster;
use super::{Check, bad, good, warning};

/// The oldest minor version of Kubernetes that the chart installs on.
const MINOR_MIN: u32 = 27;
/// More than requests take.
const SKEW_MAX: Duration = Duration::from_secs(10);
/// Certificates are dated back by less than this.
const SKEW_BAD: Duration = Duration::from_secs(120);

pub(super) async fn check(cluster: &Cluster) -> Vec<Check> {
    let (date, found) = cluster.get_with_date("/version").await;
    let reach = "can reach the API server";
    let why_not = found.why_not();
    let Some(version) = found.value() else {
        let hint = "is the cluster up, and is it the kubeconfig's current context? kubectl version asks the same";
        return vec![bad(reach, why_not, hint)];
    };
    vec![good(reach), new_enough(version["minor"].as_str().unwrap_or_default()), clock(date, SystemTime::now())]
}

// Clouds write 27+.
fn new_enough(minor: &str) -> Check {
    let about = format!("the API server is Kubernetes 1.{MINOR_MIN} or newer");
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(minor) if minor >= MINOR_MIN => good(&about),
        Ok(minor) => bad(&about, format!("it is 1.{minor}"), "upgrade the cluster"),
        Err(_) => warning(&about, format!("it says {minor:?}"), "kubectl version shows what it says"),
    }
}

pub(super) fn clock(theirs: Option<SystemTime>, ours: SystemTime) -> Check {
    let about = "the API server's clock agrees with this computer's";
    let Some(theirs) = theirs else {
        return warning(about, "the API server does not tell the time", "compare the clocks of the nodes by hand");
    };
    let apart = theirs.duration_since(ours).unwrap_or_else(|error| error.duration());
    let what = format!("they are {} s apart", apart.as_secs());
    let hint = "run a time service (chrony, systemd-timesyncd) everywhere: certificates and tokens have times in them";
    match apart {
        apart if apart <= SKEW_MAX => good(about),
        apart if apart <= SKEW_BAD => warning(about, what, hint),
        _ => bad(about, what, hint),
    }
}
