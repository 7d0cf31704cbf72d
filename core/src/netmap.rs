//! Who owns an address: nodes, users and routes.
