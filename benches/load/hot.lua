-- One link, one client. wrk sends the same bytes again and again.
wrk.headers["x-client-id"] = "client-1"
