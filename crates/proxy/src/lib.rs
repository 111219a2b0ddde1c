//! The proxy: a request pipeline on one screen, a file per feature.
