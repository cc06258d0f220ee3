redis.call('HINCRBY', p .. 'meta', 'tried', 1)
return { 'ok' }
