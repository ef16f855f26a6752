"""What can be seen from outside: figures for people, programs and Prometheus."""
