"""`make compose-test`: the image and docker-compose.yml, really run. See __main__.py."""
