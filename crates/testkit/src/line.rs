//! What relays between a client and a real server need.

use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Ends both halves of a relay: the server learns of it at once, the client gets what was passed on.
pub fn end(client: &TcpStream, server: &TcpStream) {
    hang_up(server);
    let _ = client.shutdown(Shutdown::Both);
}

/// Ends a connection so that the other end learns of it even while it waits for room to send: with a
/// reset. The plain end of a stream is not seen behind a full window before the kernel looks again
/// whether there is room, and it lets up to two minutes pass between two looks. (Clients that are
/// connected to the server itself leave unread bytes behind, which resets as well; a relay may have
/// read them all.)
fn hang_up(socket: &TcpStream) {
    // The reset is sent when the last copy of the socket goes.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}
