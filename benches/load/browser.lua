-- One link, one client, with the headers that rules of links look at. wrk sends the same bytes again and again.
wrk.headers["x-client-id"] = "client-1"
wrk.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
wrk.headers["accept-language"] = "de-AT,de;q=0.9,en;q=0.5"
