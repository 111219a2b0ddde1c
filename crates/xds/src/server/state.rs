//! One type on one stream: what the client wants, and where it may differ from the target.
//!
//! The invariant of the whole session: a resource that the client wants is either in `stale`, with what the client holds
//! of it, or the client holds exactly what the target says (sent counts as held: the stream is ordered). So a client that
//! is up to date costs nothing per resource, and newer state replaces older state instead of queueing behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::subscription::Subscription;
use crate::{Resource, Target, TypeUrl};

/// One type on one stream.
#[derive(Debug, Default)]
pub(super) struct TypeState {
    /// The client has asked for this type.
    pub(super) asked: bool,
    /// A response is owed even if there is nothing to say, so that the client stops waiting.
    pub(super) owes_answer: bool,
    pub(super) subscription: Subscription,
    pub(super) stale: BTreeMap<Arc<str>, Stale>,
    /// The response that the client has not answered. At most one.
    pub(super) outstanding: Option<Outstanding>,
    pub(super) last_nonce: String,
}

/// A name on which client and target may differ.
#[derive(Clone, Debug)]
pub(super) struct Stale {
    pub(super) held: Held,
    /// The target with which it became so; removals wait for the additions of their own target, not of later ones.
    pub(super) since: u64,
}

/// What the client holds of a name.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Nothing,
    /// Whatever it is, the client asked and must be answered.
    Asked,
    /// What the client said it holds from an earlier stream.
    Version(Arc<str>),
    /// What we sent. State of the world repeats it until it may be removed.
    Resource(Arc<Resource>),
}

/// A response that the client has not answered.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) names: Vec<Arc<str>>,
    pub(super) sent_at: Instant,
}

impl Held {
    /// True if the client need not hear of this name.
    fn is_settled(&self, wanted: Option<&Arc<Resource>>) -> bool {
        match (self, wanted) {
            (Self::Nothing, None) => true,
            (Self::Version(version), Some(resource)) => *version == resource.version,
            (Self::Resource(held), Some(resource)) => held.version == resource.version,
            (Self::Asked, _) | (Self::Nothing, Some(_)) | (Self::Version(_) | Self::Resource(_), None) => false,
        }
    }

    /// True if the client holds something that it must give up once the name is gone.
    pub(super) fn is_something(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Resource(_))
    }
}

impl TypeState {
    /// Notes that the client holds `held` of a name, unless that is what the target says.
    pub(super) fn note(&mut self, name: &Arc<str>, held: Held, wanted: Option<&Arc<Resource>>, since: u64) {
        if held.is_settled(wanted) {
            self.stale.remove(name);
            return;
        }
        let since = self.stale.get(name).map_or(since, |before| before.since);
        self.stale.insert(name.clone(), Stale { held, since });
    }

    /// A name that may differ between the target so far and the next one. Once per name and target: what is settled here is
    /// no longer known to have been stale.
    pub(super) fn touch(&mut self, kind: TypeUrl, name: &Arc<str>, old: &Target, new: &Target, since: u64) {
        let (before, wanted) = (old.get(kind, name), new.get(kind, name));
        if let Some(stale) = self.stale.get(name) {
            if stale.held.is_settled(wanted) {
                self.stale.remove(name);
            }
            return;
        }
        let of_either = [before, wanted].into_iter().flatten().any(|resource| self.subscription.wants(resource));
        if of_either {
            let held = before.map_or(Held::Nothing, |resource| Held::Resource(resource.clone()));
            self.note(name, held, wanted, since);
        }
    }

    /// Forgets names that the client no longer wants: it has dropped them itself.
    pub(super) fn forget_unwanted(&mut self, kind: TypeUrl, target: Option<&Target>) {
        let subscription = &self.subscription;
        self.stale.retain(|name, _| {
            subscription.covers(kind, name)
                || target.and_then(|target| target.get(kind, name)).is_some_and(|resource| subscription.wants(resource))
        });
    }
}
