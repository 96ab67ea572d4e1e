{{check}}

check 200 'Hello from {{name}}' /
check 200 '{"sum":6}' /api/sum --data '{"numbers": [1, 2, 3]}'
check 404 'no such page' /missing
