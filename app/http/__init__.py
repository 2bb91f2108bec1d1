"""HTTP/1.1 below the API: connections, and the exchange of a request for an answer."""
