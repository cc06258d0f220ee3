for n = 2, #ARGV, 2 do
  redis.call('HSETNX', p .. 'transfer_key', ARGV[n], ARGV[n + 1])
end
return { 'ok' }
