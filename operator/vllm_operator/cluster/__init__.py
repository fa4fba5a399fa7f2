"""What the cluster has: nodes, pods and declarations read into frozen records, and the inventory made of them."""
