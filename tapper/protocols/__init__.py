"""Messages out of bytes. Pure and sans-IO: nothing in here touches a socket, a file or a clock."""
