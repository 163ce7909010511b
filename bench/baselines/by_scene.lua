-- Get the login of a scene in one round trip.
local id = redis.call('GET', KEYS[1])
return id and redis.call('GET', ARGV[1] .. id)
