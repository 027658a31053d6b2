import socket,sys,threading,os
s=socket.create_connection((sys.argv[1],int(sys.argv[2])))
def a():
    while True:
        d=os.read(0,65536)
        if not d: s.shutdown(1); return
        s.sendall(d)
threading.Thread(target=a,daemon=True).start()
while True:
    d=s.recv(65536)
    if not d: break
    os.write(1,d)
