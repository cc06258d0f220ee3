local me = take()
-- Which folder it was stays known: what nginx goes on sending for it is taken up by whoever joins from there.
drop(me)
return { 'ok' }
