-- wrk's requests: POST every body of a list of files in turn. Arguments: content type, files.
-- The last line on standard output is what was measured, as JSON.
local requests, next_at = {}, 0

function init(args)
  for at = 2, #args do
    local file = assert(io.open(args[at], "rb"))
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = args[1] }, file:read("*a"))
    file:close()
  end
end

function request()
  next_at = next_at % #requests + 1
  return requests[next_at]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format('{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
