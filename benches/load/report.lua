-- Appended to every script: the figures in one line that `cargo xtask bench` reads.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format("figures requests=%d microseconds=%d refused=%d broken=%d median=%d p99=%d\n", summary.requests,
      summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end

-- For scripts with an end of their own: wrk would go on until its time is over. At most as many requests as there are
-- connections are unanswered then.
local began = os.time()

function finish(requests)
   io.write(string.format("figures requests=%d microseconds=%d refused=0 broken=0 median=0 p99=0\n", requests,
      math.max(os.time() - began, 1) * 1000000))
   io.flush()
   os.exit(0)
end
