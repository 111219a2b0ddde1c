//! What a proxy obeys: snapshot, listeners, routes, clusters, endpoints; and the check that every name resolves.
