module labelloop.example/annotator

go 1.19
