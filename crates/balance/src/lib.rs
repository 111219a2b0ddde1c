//! Which endpoint: a cluster, its view, a key, the time and a random source in, an endpoint out. Pure.
