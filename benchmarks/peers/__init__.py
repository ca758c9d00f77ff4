"""What `versus_peers.py` compares: problems and contenders."""
