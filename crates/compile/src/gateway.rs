//! Gateways.
use crate::piece::Piece;
use crate::shared::{ListenerSet, TableSet, Units};
use crate::sidecar_routes::Seen;

#[derive(Debug, Default)]
pub(crate) struct Slots {
    listeners: Option<Piece<ListenerSet>>,
    tables: Option<Piece<TableSet>>,
}
impl Slots {
    pub(crate) fn refresh(&mut self, _seen: Seen<'_>, _units: &mut Units) -> (Piece<ListenerSet>, Piece<TableSet>) {
        let l = crate::piece::refresh(&mut self.listeners, Default::default(), |_| {
            (ListenerSet::default(), Default::default())
        });
        let t =
            crate::piece::refresh(&mut self.tables, Default::default(), |_| (TableSet::default(), Default::default()));
        (l, t)
    }
}
