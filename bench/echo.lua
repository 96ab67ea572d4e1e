-- A wrk script: every request posts a JSON document of 1 KiB.
local text = string.rep("x", 1024 - #'{"text":""}')
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"text":"' .. text .. '"}'
