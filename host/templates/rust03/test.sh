{{check}}

check 200 'Hello from {{name}}' /
check 200 'some text' /echo --data 'some text'
check 404 'no such page' /missing
