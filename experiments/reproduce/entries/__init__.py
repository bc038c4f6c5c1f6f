"""What can be reproduced, one table of a paper in each file."""
