{{check}}

check 200 '<h1>{{name}}</h1>' /
check 200 'font-size' /style.css
check 404 'no such file' /missing
