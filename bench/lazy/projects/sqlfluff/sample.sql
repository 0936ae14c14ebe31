select a, b from items where a>1
