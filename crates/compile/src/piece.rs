//! A piece of a layer: remade when its inputs are different, kept when its content is not.

use std::sync::Arc;

use words::Fingerprint;

/// A value with the fingerprints of what it was made of and of what it is.
#[derive(Debug)]
pub(crate) struct Piece<T> {
    inputs: Fingerprint,
    /// The fingerprint of the content.
    pub(crate) print: Fingerprint,
    /// The value; the same `Arc` as long as the content is the same.
    pub(crate) value: Arc<T>,
}

impl<T> Clone for Piece<T> {
    fn clone(&self) -> Self {
        Self { inputs: self.inputs, print: self.print, value: self.value.clone() }
    }
}

/// The piece for these inputs: the one in the slot, or a new one, which `compute` makes with its fingerprint.
pub(crate) fn refresh<T>(
    slot: &mut Option<Piece<T>>,
    inputs: Fingerprint,
    compute: impl FnOnce(Option<&T>) -> (T, Fingerprint),
) -> Piece<T> {
    if let Some(piece) = slot.as_ref().filter(|piece| piece.inputs == inputs) {
        return piece.clone();
    }
    let (value, print) = compute(slot.as_ref().map(|piece| &*piece.value));
    let kept = slot.take().filter(|piece| piece.print == print).map(|piece| piece.value);
    let piece = Piece { inputs, print, value: kept.unwrap_or_else(|| Arc::new(value)) };
    *slot = Some(piece.clone());
    piece
}
