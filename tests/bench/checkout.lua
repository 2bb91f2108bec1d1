-- The customers. wrk runs as many threads as there are connections, so that each thread's state is one customer's:
-- it orders, asks for the payment page if there is a second request, and orders again.
--
-- Arguments: the path that starts a workflow and its body, the method and path that wait for the event (or two empty
-- ones), and what makes ids of this run unlike those of another. %ID% in a path stands for the workflow's id: one made
-- here where the first path has it, else the one in the answer.

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds; long nanoseconds; } moment; int clock_gettime(int clock, moment *now);")
local moment = ffi.new("moment")

local WALL, STEADY = 0, 1

local function microseconds(clock)
    ffi.C.clock_gettime(clock, moment)
    return tonumber(moment.seconds) * 1e6 + tonumber(moment.nanoseconds) / 1e3
end

local threads = {}

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(arguments)
    start, order, method, wait, run = unpack(arguments)
    own = start:find("%ID%", 1, true)
    ordered, refused, example, latencies = 0, 0, "", {}
    id, began, waiting = "", 0, false
end

function request()
    if waiting then
        return wrk.format(method, (wait:gsub("%%ID%%", id)), {})
    end
    ordered = ordered + 1
    id = run .. "-" .. number .. "-" .. ordered
    began = microseconds(STEADY)
    return wrk.format("POST", (start:gsub("%%ID%%", id)), {["Content-Type"] = "application/json"}, order)
end

function response(status, headers, body)
    local good = status >= 200 and status <= 299 and not (waiting and status == 202)
    if good and not waiting and wait ~= "" then
        id = own and id or body:match('"id":"([^"]+)"')
        waiting = true
        return
    end
    waiting = false
    if good then
        latencies[#latencies + 1] = microseconds(STEADY) - began
    else
        refused, example = refused + 1, status .. " " .. body:sub(1, 200)
    end
end

function done(summary)
    io.write(string.format("ended %.6f\nseconds %.6f\n", microseconds(WALL) / 1e6, summary.duration / 1e6))
    local refusals, shown = summary.errors.connect + summary.errors.read + summary.errors.timeout, ""
    for _, thread in ipairs(threads) do
        refusals = refusals + thread:get("refused")
        shown = thread:get("example") ~= "" and thread:get("example") or shown
        for _, took in ipairs(thread:get("latencies")) do
            io.write(string.format("latency %.0f\n", took))
        end
    end
    io.write("refused ", refusals, " ", shown:gsub("%s+", " "), "\n")
end
